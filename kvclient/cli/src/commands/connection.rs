//! `connect`.

use std::io::Write;

use common::view::View;

use crate::frame::failure::Failure;
use crate::frame::output::print;
use crate::frame::session::Session;

/// Connects to another server, and says which cluster it belongs to.
pub(crate) async fn connect(
    session: &mut Session,
    server: String,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let client = session.connect(server.clone()).await?;
    print(out, &connected(&server, &client.view()))
}

/// The text for a new connection.
pub(crate) fn connected(server: &str, view: &View) -> String {
    let (cluster, servers, number) = (view.cluster.short(), view.servers.len(), view.number);
    let plural = if servers == 1 { "" } else { "s" };
    format!("connected to {server}: cluster {cluster}, {servers} server{plural}, view {number}\n")
}
