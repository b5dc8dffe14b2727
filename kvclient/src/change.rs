//! Changing one key: puts and deletes, which may have conditions, and the other changes.
//!
//! A put and a delete are values that are sent when they are awaited, so that conditions and a time to live can be
//! added before. Without a condition there is one way in which they end, their version; with one there are several,
//! and the type of the answer says so.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use common::limits::VALUE_BYTES_MAX;
use common::operation::{Condition, Expiry, ExpiryCondition, Operation, Outcome, Version};
use common::time::WallTime;

use crate::client::{Client, unexpected};
use crate::error::Error;
use crate::router::Target;

/// A request on its way.
type Sent<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// A put; see [`Client::put`]. Awaited, it is the version of the new value.
#[derive(Clone, Debug)]
#[must_use = "a put is sent when it is awaited"]
pub struct Put<'a> {
    client: &'a Client,
    key: Bytes,
    value: Bytes,
    expiry: Expiry,
}

impl<'a> Put<'a> {
    /// The value is gone after this time, in whole milliseconds. It counts by the servers' clocks, from the moment at
    /// which the write is ordered. A watch that has it from the log reports a gap (`docs/guarantees.md`).
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.expiry = Expiry::In { ms: millis(ttl) };
        self
    }

    /// The value is gone from this moment on.
    pub fn expires_at(mut self, at: impl Into<WallTime>) -> Self {
        self.expiry = Expiry::At { at: at.into() };
        self
    }

    /// Puts only if there is no value.
    pub fn if_absent(self) -> PutIf<'a> {
        self.condition(Condition::Absent {})
    }

    /// Puts only if there is a value.
    pub fn if_present(self) -> PutIf<'a> {
        self.condition(Condition::Present {})
    }

    /// Puts only if the value that is there has this version.
    pub fn if_version(self, version: Version) -> PutIf<'a> {
        self.condition(Condition::Version { version })
    }

    /// Puts only if the value that is there is this one, byte by byte.
    pub fn if_value(self, value: impl Into<Bytes>) -> PutIf<'a> {
        self.condition(Condition::Value { value: value.into() })
    }

    /// Puts only if this condition holds.
    pub fn condition(self, condition: Condition) -> PutIf<'a> {
        PutIf { put: self, condition }
    }

    fn operation(self, condition: Condition) -> (&'a Client, Operation) {
        let Self { client, key, value, expiry } = self;
        let operation = match expiry {
            Expiry::Never {} => Operation::Put { key, value, expires: None, condition },
            Expiry::At { at } => Operation::Put { key, value, expires: Some(at), condition },
            expiry => Operation::Set { key, value, expiry, condition, return_old: false },
        };
        (client, operation)
    }
}

impl<'a> IntoFuture for Put<'a> {
    type Output = Result<Version, Error>;
    type IntoFuture = Sent<'a, Version>;

    fn into_future(self) -> Self::IntoFuture {
        let (client, operation) = self.operation(Condition::Always {});
        Box::pin(async move {
            match client.write(operation).await? {
                Outcome::Written { version, .. } => Ok(version),
                other => Err(unexpected(&other)),
            }
        })
    }
}

/// A put with a condition. Awaited, it is an [`Outcome`]: `Written`, or `ConditionFailed` with the version that is
/// there.
#[derive(Clone, Debug)]
#[must_use = "a put is sent when it is awaited"]
pub struct PutIf<'a> {
    put: Put<'a>,
    condition: Condition,
}

impl PutIf<'_> {
    /// As [`Put::ttl`].
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.put = self.put.ttl(ttl);
        self
    }

    /// As [`Put::expires_at`].
    pub fn expires_at(mut self, at: impl Into<WallTime>) -> Self {
        self.put = self.put.expires_at(at);
        self
    }
}

impl<'a> IntoFuture for PutIf<'a> {
    type Output = Result<Outcome, Error>;
    type IntoFuture = Sent<'a, Outcome>;

    fn into_future(self) -> Self::IntoFuture {
        let (client, operation) = self.put.operation(self.condition);
        Box::pin(async move { client.write(operation).await })
    }
}

/// A delete; see [`Client::delete`]. Awaited, it is the version of the entry that removed the value, or `None` when
/// there was no value.
#[derive(Clone, Debug)]
#[must_use = "a delete is sent when it is awaited"]
pub struct Delete<'a> {
    client: &'a Client,
    key: Bytes,
}

impl<'a> Delete<'a> {
    /// Deletes only if the value that is there has this version.
    pub fn if_version(self, version: Version) -> DeleteIf<'a> {
        self.condition(Condition::Version { version })
    }

    /// Deletes only if the value that is there is this one, byte by byte.
    pub fn if_value(self, value: impl Into<Bytes>) -> DeleteIf<'a> {
        self.condition(Condition::Value { value: value.into() })
    }

    /// Deletes only if this condition holds.
    pub fn condition(self, condition: Condition) -> DeleteIf<'a> {
        DeleteIf { delete: self, condition }
    }
}

impl<'a> IntoFuture for Delete<'a> {
    type Output = Result<Option<Version>, Error>;
    type IntoFuture = Sent<'a, Option<Version>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            match self.condition(Condition::Always {}).await? {
                Outcome::Deleted { version } => Ok(Some(version)),
                Outcome::NotFound {} => Ok(None),
                other => Err(unexpected(&other)),
            }
        })
    }
}

/// A delete with a condition. Awaited, it is an [`Outcome`]: `Deleted`, `NotFound`, or `ConditionFailed` with the
/// version that is there.
#[derive(Clone, Debug)]
#[must_use = "a delete is sent when it is awaited"]
pub struct DeleteIf<'a> {
    delete: Delete<'a>,
    condition: Condition,
}

impl<'a> IntoFuture for DeleteIf<'a> {
    type Output = Result<Outcome, Error>;
    type IntoFuture = Sent<'a, Outcome>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { delete: Delete { client, key }, condition } = self;
        Box::pin(async move { client.write(Operation::Delete { key, condition }).await })
    }
}

/// Where appended bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Where in the value they begin.
    pub offset: u64,
    /// The version of the new value.
    pub version: Version,
}

/// A number that was added to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Added {
    /// The sum.
    pub value: i64,
    /// The version of the new value.
    pub version: Version,
}

impl Client {
    /// Sets a value, whether there was one or not, for ever: unless the [`Put`] is given a time to live or a condition
    /// before it is awaited.
    pub fn put(&self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Put<'_> {
        Put { client: self, key: key.into(), value: value.into(), expiry: Expiry::Never {} }
    }

    /// Removes a value, whatever it is: unless the [`Delete`] is given a condition before it is awaited.
    pub fn delete(&self, key: impl Into<Bytes>) -> Delete<'_> {
        Delete { client: self, key: key.into() }
    }

    /// Adds bytes at the end of a value, or makes it of them.
    ///
    /// # Errors
    /// See [`Error`]; [`Error::Refused`] when the value would become too large.
    pub async fn append(&self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Result<Appended, Error> {
        match self.write(Operation::Append { key: key.into(), value: value.into() }).await? {
            Outcome::Appended { version, offset } => Ok(Appended { offset, version }),
            Outcome::TooLarge { bytes } => {
                let reason = format!("the value would have {bytes} bytes, over the limit; begin a new key");
                Err(Error::Refused { reason })
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Adds to a value that is a whole number in decimal digits, or makes it of `by`. A time to live stays as it is.
    ///
    /// # Errors
    /// See [`Error`]; [`Error::Refused`] when the value is no number, or the sum would be none of 64 bits.
    pub async fn add(&self, key: impl Into<Bytes>, by: i64) -> Result<Added, Error> {
        let refused = |reason: &str| Err(Error::Refused { reason: reason.to_owned() });
        match self.write(Operation::Add { key: key.into(), by }).await? {
            Outcome::Sum { version, value } => {
                let digits = std::str::from_utf8(&value).ok().and_then(|digits| digits.parse().ok());
                digits.map(|value| Added { value, version }).ok_or_else(|| unexpected(&value))
            }
            Outcome::NotANumber {} => refused("the value is no whole number; put one, or add to another key"),
            Outcome::OutOfRange {} => refused("the sum would not fit into 64 bits"),
            other => Err(unexpected(&other)),
        }
    }

    /// Gives a value that is there a time to live; see [`Put::ttl`]. `None` when there is no value.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn expire(&self, key: impl Into<Bytes>, ttl: Duration) -> Result<Option<Version>, Error> {
        let (key, expiry) = (key.into(), Expiry::In { ms: millis(ttl) });
        let (when, condition) = (ExpiryCondition::Always {}, Condition::Always {});
        self.retime(Operation::Retime { key, expiry, when, condition, return_old: false }).await
    }

    /// Sets the moment from which on a value that is there is gone. `None` when there is no value.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn expire_at(
        &self,
        key: impl Into<Bytes>,
        at: impl Into<WallTime>,
    ) -> Result<Option<Version>, Error> {
        self.retime(Operation::Expire { key: key.into(), expires: Some(at.into()) }).await
    }

    /// Removes the expiry of a value that is there: it stays for ever. `None` when there is no value.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn persist(&self, key: impl Into<Bytes>) -> Result<Option<Version>, Error> {
        self.retime(Operation::Expire { key: key.into(), expires: None }).await
    }

    async fn retime(&self, operation: Operation) -> Result<Option<Version>, Error> {
        match self.write(operation).await? {
            Outcome::Written { version, .. } | Outcome::Changed { version, .. } => Ok(Some(version)),
            Outcome::NotFound {} => Ok(None),
            other => Err(unexpected(&other)),
        }
    }

    /// Any change to one key, or a batch. All other writing methods are short for this one.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn write(&self, operation: Operation) -> Result<Outcome, Error> {
        operation.check(VALUE_BYTES_MAX)?;
        let Some(key) = operation.key() else {
            return Err(Error::Refused { reason: "this operation names no key".to_owned() });
        };
        self.ordered(Target::Key(key), &operation).await
    }
}

/// Whole milliseconds, rounded up.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
