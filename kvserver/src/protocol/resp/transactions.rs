//! Transactions: `MULTI`, `EXEC`, `DISCARD`, `WATCH`, `UNWATCH`.

use bytes::Bytes;
use common::operation::Operation;

use super::answer::{Call, Form, Queued};
use super::encode::Writer;
use super::spec::{Answered, Local};
use super::state::{State, Step, Transaction, Wide};
use super::words::{Refusal, check_keys};

/// Keys that one connection watches at most.
const WATCHED_MAX: usize = 1024;

pub(super) fn multi(local: &mut Local<'_>, _: &[Bytes]) -> Answered {
    if local.state.transaction.is_some() {
        // The transaction goes on, as in Redis.
        Writer::new(local.out, local.state.version).error("ERR MULTI calls can not be nested");
        return Ok(());
    }
    local.state.transaction = Some(Transaction::default());
    local.writer().ok();
    Ok(())
}

pub(super) fn discard(local: &mut Local<'_>, _: &[Bytes]) -> Answered {
    if local.state.transaction.take().is_none() {
        return Err("ERR DISCARD without MULTI".into());
    }
    local.state.watched.clear();
    local.writer().ok();
    Ok(())
}

pub(super) fn unwatch(local: &mut Local<'_>, _: &[Bytes]) -> Answered {
    local.state.watched.clear();
    local.writer().ok();
    Ok(())
}

pub(super) fn watch(state: &State, words: &[Bytes]) -> Result<Wide, Refusal> {
    if state.transaction.is_some() {
        return Err("ERR WATCH inside MULTI is not allowed".into());
    }
    check_keys(&words[1..])?;
    if state.watched.len() + words.len() > WATCHED_MAX {
        return Err("ERR too many watched keys".into());
    }
    Ok(Wide::Watch { keys: words[1..].to_vec() })
}

pub(super) fn exec(local: &mut Local<'_>, _: &[Bytes]) -> Answered {
    let Some(transaction) = local.state.transaction.take() else {
        return Err("ERR EXEC without MULTI".into());
    };
    let checks = std::mem::take(&mut local.state.watched);
    if transaction.broken {
        return Err("EXECABORT Transaction discarded because of previous errors.".into());
    }
    let Transaction { queued, parts, .. } = transaction;
    if parts.is_empty() && checks.is_empty() {
        local.writer().array(queued.len());
        for queued in queued {
            if let Queued::Ready(bytes) = queued {
                local.out.extend_from_slice(&bytes);
            }
        }
        return Ok(());
    }
    let batch = Operation::Batch { checks, parts };
    local.step = Step::Call(Call::change(batch, Form::Transaction(queued)));
    Ok(())
}
