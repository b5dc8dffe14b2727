//! Answers to clients that read, from what was read.

use common::messages::Reply;
use common::operation::Found;

use super::ask::Answer;
use super::env::Env;

/// Whether something that was read has expired by this server's clock, though not yet by log time.
pub(crate) fn expired(env: &Env, answer: &Answer) -> bool {
    let now = env.stamp();
    let gone = |found: &Found| found.expires.is_some_and(|expires| expires <= now);
    match answer {
        Answer::Value(found) => found.as_ref().is_some_and(gone),
        Answer::Page { pairs, .. } => pairs.iter().any(|pair| gone(&pair.found)),
        Answer::TooLarge { expires, .. } | Answer::Keys { expires, .. } => {
            expires.is_some_and(|expires| expires <= now)
        }
        Answer::Nothing | Answer::Damaged(_) => false,
    }
}

/// The reply to a client.
pub(crate) fn reply_of(answer: Answer) -> Reply {
    match answer {
        Answer::Value(found) => Reply::Value { found },
        Answer::TooLarge { key, bytes, .. } => Reply::TooLarge { key, bytes },
        Answer::Page { pairs, more } => Reply::Page { pairs, more },
        Answer::Keys { keys, count, next, .. } => Reply::Keys { keys, count, next },
        Answer::Nothing => Reply::Value { found: None },
        Answer::Damaged(reason) => {
            let reason = format!("what is stored is damaged, and there is no other copy in sync: {reason}");
            Reply::Refused { reason }
        }
    }
}
