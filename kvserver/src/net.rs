//! Links to other servers and to the ECS, and what waits to be sent.

pub(crate) mod backoff;
pub(crate) mod byte_counter;
pub(crate) mod ecs_link;
pub(crate) mod heartbeat;
pub(crate) mod peers;
pub(crate) mod rope;
pub(crate) mod send_buffer;
