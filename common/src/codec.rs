//! The binary codec of hot messages and log entries: fixed-width little-endian integers, length-prefixed
//! bytes, a tag byte for each variant. Bytes are read without copying.
//!
//! Decoding never trusts a length: it is checked against what is there before anything is allocated.

use bytes::{Buf, Bytes};

use crate::ids::{
    ClientId, Epoch, Incarnation, LogId, Nonce, PartitionId, RequestId, RequestNumber, Seq, ServerId, StoreId,
};
use crate::time::WallTime;

/// Bytes that are no message of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The bytes end before the message does.
    #[error("the message is cut short")]
    Short,
    /// A tag byte that names no variant.
    #[error("unknown variant {tag} of {what}")]
    Variant {
        /// The type that was read.
        what: &'static str,
        /// The byte that was found.
        tag: u8,
    },
    /// A number out of its range.
    #[error("{what} is out of range")]
    Range {
        /// The field that was read.
        what: &'static str,
    },
    /// Bytes are left behind the message.
    #[error("{0} bytes too many")]
    Trailing(usize),
}

/// Where encoded values go.
pub trait Sink: Send {
    /// Appends a copy of bytes.
    fn put(&mut self, bytes: &[u8]);

    /// Appends bytes that may be kept as they are, instead of a copy of them.
    fn share(&mut self, bytes: &Bytes) {
        self.put(bytes);
    }
}

impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// What can be written to and read from bytes.
pub trait Wire: Sized {
    /// Appends this value.
    fn write<S: Sink + ?Sized>(&self, out: &mut S);

    /// Reads a value from the front of `input`.
    ///
    /// # Errors
    /// When the bytes are not what `write` makes.
    fn read(input: &mut Bytes) -> Result<Self, Malformed>;

    /// This value alone, as bytes.
    fn to_wire(&self) -> Bytes {
        let mut out = Vec::new();
        self.write(&mut out);
        out.into()
    }

    /// Reads a value that fills `input` to its end.
    ///
    /// # Errors
    /// When the bytes are not exactly one value.
    fn from_wire(mut input: Bytes) -> Result<Self, Malformed> {
        let value = Self::read(&mut input)?;
        if input.is_empty() { Ok(value) } else { Err(Malformed::Trailing(input.len())) }
    }
}

fn take<const N: usize>(input: &mut Bytes) -> Result<[u8; N], Malformed> {
    let Some((head, _)) = input.split_first_chunk::<N>() else { return Err(Malformed::Short) };
    let head = *head;
    input.advance(N);
    Ok(head)
}

macro_rules! wire_integer {
    ($($integer:ty),*) => {$(
        impl Wire for $integer {
            fn write<S: Sink + ?Sized>(&self, out: &mut S) {
                out.put(&self.to_le_bytes());
            }

            fn read(input: &mut Bytes) -> Result<Self, Malformed> {
                take(input).map(Self::from_le_bytes)
            }
        }
    )*};
}
wire_integer!(u8, u16, u32, u64, u128, i64);

macro_rules! wire_newtype {
    ($($name:ty),*) => {$(
        impl Wire for $name {
            fn write<S: Sink + ?Sized>(&self, out: &mut S) {
                self.0.write(out);
            }

            fn read(input: &mut Bytes) -> Result<Self, Malformed> {
                Wire::read(input).map(Self)
            }
        }
    )*};
}
wire_newtype!(ServerId, StoreId, ClientId, Incarnation, Nonce, RequestNumber, PartitionId, Seq, WallTime);

impl Wire for bool {
    fn write<S: Sink + ?Sized>(&self, out: &mut S) {
        out.put(&[u8::from(*self)]);
    }

    fn read(input: &mut Bytes) -> Result<Self, Malformed> {
        match u8::read(input)? {
            0 => Ok(false),
            1 => Ok(true),
            tag => Err(Malformed::Variant { what: "bool", tag }),
        }
    }
}

impl Wire for Bytes {
    fn write<S: Sink + ?Sized>(&self, out: &mut S) {
        u32::try_from(self.len()).expect("no message holds 4 GiB").write(out);
        out.share(self);
    }

    fn read(input: &mut Bytes) -> Result<Self, Malformed> {
        let len = u32::read(input)? as usize;
        if len > input.len() { Err(Malformed::Short) } else { Ok(input.split_to(len)) }
    }
}

impl Wire for String {
    fn write<S: Sink + ?Sized>(&self, out: &mut S) {
        u32::try_from(self.len()).expect("no message holds 4 GiB").write(out);
        out.put(self.as_bytes());
    }

    fn read(input: &mut Bytes) -> Result<Self, Malformed> {
        let bytes = Bytes::read(input)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| Malformed::Range { what: "text" })
    }
}

impl<T: Wire> Wire for Option<T> {
    fn write<S: Sink + ?Sized>(&self, out: &mut S) {
        match self {
            None => out.put(&[0]),
            Some(value) => {
                out.put(&[1]);
                value.write(out);
            }
        }
    }

    fn read(input: &mut Bytes) -> Result<Self, Malformed> {
        Ok(if bool::read(input)? { Some(T::read(input)?) } else { None })
    }
}

impl<T: Wire> Wire for Vec<T> {
    fn write<S: Sink + ?Sized>(&self, out: &mut S) {
        u32::try_from(self.len()).expect("no message holds 4 Gi elements").write(out);
        for element in self {
            element.write(out);
        }
    }

    fn read(input: &mut Bytes) -> Result<Self, Malformed> {
        let len = u32::read(input)? as usize;
        // Every element takes at least a byte: a length beyond that is a lie, not an allocation.
        if len > input.len() {
            return Err(Malformed::Short);
        }
        (0..len).map(|_| T::read(input)).collect()
    }
}

impl<A: Wire, B: Wire> Wire for (A, B) {
    fn write<S: Sink + ?Sized>(&self, out: &mut S) {
        self.0.write(out);
        self.1.write(out);
    }

    fn read(input: &mut Bytes) -> Result<Self, Malformed> {
        Ok((A::read(input)?, B::read(input)?))
    }
}

/// Refuses an input that begins with this tag byte; `what` is the type that is read.
pub(crate) fn refuse_tag(input: &Bytes, tag: u8, what: &'static str) -> Result<(), Malformed> {
    if input.first() == Some(&tag) { Err(Malformed::Variant { what, tag }) } else { Ok(()) }
}

/// Writes and reads a struct field by field, in the order given.
#[macro_export]
macro_rules! wire_struct {
    ($name:ident { $($field:ident),* $(,)? }) => {
        impl $crate::codec::Wire for $name {
            fn write<S: $crate::codec::Sink + ?Sized>(&self, out: &mut S) {
                $(self.$field.write(out);)*
            }

            fn read(input: &mut ::bytes::Bytes) -> Result<Self, $crate::codec::Malformed> {
                $(let $field = $crate::codec::Wire::read(input)?;)*
                Ok(Self { $($field),* })
            }
        }
    };
}

/// Variants whose tag byte stands before something that all of them share, and their fields behind it.
pub trait Tagged: Sized {
    /// Whether the tag names one of these.
    fn has(tag: u8) -> bool;

    /// The tag of this one.
    fn tag(&self) -> u8;

    /// Appends the fields of this one.
    fn write_fields<S: Sink + ?Sized>(&self, out: &mut S);

    /// Reads the fields of the variant that the tag names.
    ///
    /// # Errors
    /// When it names none, or the bytes are not what `write_fields` makes.
    fn read_fields(tag: u8, input: &mut Bytes) -> Result<Self, Malformed>;
}

/// Writes and reads the fields of struct-like variants, apart from their tags.
#[macro_export]
macro_rules! wire_variants {
    ($name:ident { $($tag:literal => $variant:ident { $($field:ident),* $(,)? }),* $(,)? }) => {
        impl $crate::codec::Tagged for $name {
            fn has(tag: u8) -> bool {
                matches!(tag, $($tag)|*)
            }

            fn tag(&self) -> u8 {
                match self {
                    $(Self::$variant { .. } => $tag,)*
                }
            }

            fn write_fields<S: $crate::codec::Sink + ?Sized>(&self, out: &mut S) {
                match self {
                    $(Self::$variant { $($field),* } => { $($crate::codec::Wire::write($field, out);)* })*
                }
            }

            fn read_fields(tag: u8, input: &mut ::bytes::Bytes) -> Result<Self, $crate::codec::Malformed> {
                match tag {
                    $($tag => {
                        $(let $field = $crate::codec::Wire::read(input)?;)*
                        Ok(Self::$variant { $($field),* })
                    })*
                    tag => Err($crate::codec::Malformed::Variant { what: stringify!($name), tag }),
                }
            }
        }
    };
}

/// Writes and reads an enum of struct-like variants: a tag byte, then the fields in the order given. A last variant,
/// `else`, may have the tags of its last field, a [`Tagged`](crate::codec::Tagged) one.
#[macro_export]
macro_rules! wire_enum {
    ($name:ident { $($tag:literal => $variant:ident { $($field:ident),* $(,)? }),* $(,)? }) => {
        impl $crate::codec::Wire for $name {
            fn write<S: $crate::codec::Sink + ?Sized>(&self, out: &mut S) {
                match self {
                    $(Self::$variant { $($field),* } => {
                        out.put(&[$tag]);
                        $($field.write(out);)*
                    })*
                }
            }

            fn read(input: &mut ::bytes::Bytes) -> Result<Self, $crate::codec::Malformed> {
                match <u8 as $crate::codec::Wire>::read(input)? {
                    $($tag => {
                        $(let $field = $crate::codec::Wire::read(input)?;)*
                        Ok(Self::$variant { $($field),* })
                    })*
                    tag => Err($crate::codec::Malformed::Variant { what: stringify!($name), tag }),
                }
            }
        }
    };
    ($name:ident {
        $($tag:literal => $variant:ident { $($field:ident),* },)*
        else $rest:ident { $($head:ident),* } $last:ident: $tagged:ty $(,)?
    }) => {
        impl $crate::codec::Wire for $name {
            fn write<S: $crate::codec::Sink + ?Sized>(&self, out: &mut S) {
                match self {
                    $(Self::$variant { $($field),* } => {
                        out.put(&[$tag]);
                        $($field.write(out);)*
                    })*
                    Self::$rest { $($head,)* $last } => {
                        out.put(&[$crate::codec::Tagged::tag($last)]);
                        $($head.write(out);)*
                        $crate::codec::Tagged::write_fields($last, out);
                    }
                }
            }

            fn read(input: &mut ::bytes::Bytes) -> Result<Self, $crate::codec::Malformed> {
                match <u8 as $crate::codec::Wire>::read(input)? {
                    $($tag => {
                        $(let $field = $crate::codec::Wire::read(input)?;)*
                        Ok(Self::$variant { $($field),* })
                    })*
                    tag if <$tagged as $crate::codec::Tagged>::has(tag) => {
                        $(let $head = $crate::codec::Wire::read(input)?;)*
                        let $last = $crate::codec::Tagged::read_fields(tag, input)?;
                        Ok(Self::$rest { $($head,)* $last })
                    }
                    tag => Err($crate::codec::Malformed::Variant { what: stringify!($name), tag }),
                }
            }
        }
    };
}

pub use {wire_enum, wire_struct, wire_variants};

wire_struct!(Epoch { generation, version });
wire_struct!(LogId { tag, seq });
wire_struct!(RequestId { client, number });

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_beyond_the_bytes_allocates_nothing() {
        let lie = Bytes::from_static(&[0xff, 0xff, 0xff, 0x7f, 1, 2]);
        assert_eq!(Vec::<u64>::from_wire(lie.clone()), Err(Malformed::Short));
        assert_eq!(Bytes::from_wire(lie), Err(Malformed::Short));
    }

    #[test]
    fn what_is_left_over_is_an_error() {
        assert_eq!(u8::from_wire(Bytes::from_static(&[1, 2, 3])), Err(Malformed::Trailing(2)));
    }
}
