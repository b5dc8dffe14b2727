//! `kvclient verify`.

use std::io::Write;

use clap::Args;
use comfy_table::Table;
use comfy_table::presets::UTF8_BORDERS_ONLY;
use serde_json::json;

use crate::frame::failure::{Exit, Failure};
use crate::frame::show::bytes_shown;
use kvclient::Client;
use kvclient::Comparison;

/// The arguments of `verify`.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// As JSON: every copy of every partition
    #[arg(long)]
    pub(crate) json: bool,
}

/// Compares all copies of all partitions.
pub(crate) async fn run(client: Client, args: &VerifyArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let all = client.compare_all().await?;
    let text = if args.json { as_json(&all) } else { shown(&all) };
    out.write_all(text.as_bytes()).map_err(Failure::output)?;
    judge(&all)
}

/// The failure, if copies differ or did not answer.
fn judge(all: &[Comparison]) -> Result<(), Failure> {
    let (different, missing) = (count(all, Comparison::differs), count(all, |one| !one.is_complete()));
    if different > 0 {
        let message = format!(
            "the copies of {different} partitions differ: no write or read does that. Keep the storage directories and \
             report it; a server is filled anew when its directory is moved aside and it is started again"
        );
        return Err(Failure::new(Exit::CompareFailed, message));
    }
    if missing > 0 || all.is_empty() {
        let message =
            format!("{missing} partitions have copies that gave no digest; see `status`, then try again");
        return Err(Failure::new(Exit::Unavailable, message));
    }
    Ok(())
}

fn count(all: &[Comparison], which: impl Fn(&Comparison) -> bool) -> usize {
    all.iter().filter(|one| which(one)).count()
}

fn shown(all: &[Comparison]) -> String {
    let copies: usize = all.iter().map(|one| one.copies.len()).sum();
    let bad: Vec<&Comparison> = all.iter().filter(|one| one.differs() || !one.is_complete()).collect();
    if bad.is_empty() {
        let first = |one: &Comparison| one.copies.first().and_then(|copy| copy.digest).unwrap_or_default();
        let records: u64 = all.iter().map(|one| first(one).records).sum();
        let bytes = bytes_shown(all.iter().map(|one| first(one).bytes).sum());
        return format!(
            "OK: {copies} copies of {} partitions are equal: {records} keys, {bytes}\n",
            all.len()
        );
    }
    let mut table = Table::new();
    table.load_preset(UTF8_BORDERS_ONLY).set_header([
        "partition",
        "entry",
        "server",
        "keys",
        "size",
        "digest",
    ]);
    for one in &bad {
        for copy in &one.copies {
            let (keys, size, digest) = match copy.digest {
                Some(of) => (of.records.to_string(), bytes_shown(of.bytes), format!("{:032x}", of.sum)),
                None => ("-".to_owned(), "-".to_owned(), "none given".to_owned()),
            };
            let row =
                [one.partition.to_string(), one.at.to_string(), copy.address.clone(), keys, size, digest];
            table.add_row(row);
        }
    }
    format!("{} of {} partitions are not as they should be\n{table}\n", bad.len(), all.len())
}

fn as_json(all: &[Comparison]) -> String {
    let partitions = all.iter().map(|one| {
        let copies = one.copies.iter().map(|copy| {
            json!({
                "server": copy.server.to_string(),
                "address": copy.address,
                "digest": copy.digest.map(|of| format!("{:032x}", of.sum)),
                "keys": copy.digest.map(|of| of.records),
                "bytes": copy.digest.map(|of| of.bytes),
            })
        });
        json!({
            "partition": one.partition.0,
            "entry": one.at.to_string(),
            "equal": !one.differs() && one.is_complete(),
            "copies": copies.collect::<Vec<_>>(),
        })
    });
    let equal = judge(all).is_ok();
    format!("{:#}\n", json!({ "equal": equal, "partitions": partitions.collect::<Vec<_>>() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::ids::{LogId, PartitionId, ServerId};
    use common::messages::Digest;

    use kvclient::CopyDigest;

    fn comparison(sums: &[Option<u128>]) -> Comparison {
        let copy = |(index, sum): (usize, &Option<u128>)| CopyDigest {
            server: ServerId(index as u128),
            address: format!("s{index}:1"),
            digest: sum.map(|sum| Digest { sum, records: 2, bytes: 10 }),
        };
        let copies = sums.iter().enumerate().map(copy).collect();
        Comparison { partition: PartitionId(3), at: LogId::default(), copies }
    }

    #[test]
    fn a_difference_and_a_missing_copy_have_codes_of_their_own() {
        let equal = vec![comparison(&[Some(1), Some(1), Some(1)])];
        assert_eq!(judge(&equal), Ok(()));
        assert_eq!(shown(&equal), "OK: 3 copies of 1 partitions are equal: 2 keys, 10 B\n");
        let different = vec![comparison(&[Some(1), None, Some(2)])];
        assert_eq!(judge(&different).unwrap_err().exit, Exit::CompareFailed);
        let text = shown(&different);
        assert!(text.contains("s2:1") && text.contains("none given"), "{text}");
        let json: serde_json::Value = serde_json::from_str(&as_json(&different)).unwrap();
        assert_eq!(
            (&json["equal"], &json["partitions"][0]["copies"][1]["digest"]),
            (&false.into(), &().into())
        );
        assert_eq!(judge(&[comparison(&[Some(1), None])]).unwrap_err().exit, Exit::Unavailable);
    }
}
