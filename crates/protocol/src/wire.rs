//! How each type of the schemas stands on the wire: what the generated code calls.

use bytes::Bytes;
use millrace_model::Uuid;

use crate::{DecodeError, EncodeError, Reader, Records, Writer};

/// Bytes reserved for an array at once, at most, for each byte that is left to read: more is
/// reserved only as elements really come.
const RESERVE_RATIO: usize = 4;

/// A type that can be read. `v` is the version of the message, `flex` whether it is flexible.
pub trait ReadWire<'a>: Sized {
    /// The fewest bytes a value takes, in any version.
    const MIN_BYTES: usize;
    /// Reads one value.
    fn read(r: &mut Reader<'a>, v: i16, flex: bool) -> Result<Self, DecodeError>;
}

/// A type that can be written.
pub trait WriteWire {
    /// Writes one value.
    fn write(&self, w: &mut Writer, v: i16, flex: bool) -> Result<(), EncodeError>;
}

/// A type for which null has a place in the format.
pub trait ReadNullable<'a>: ReadWire<'a> {
    /// Reads a value or null.
    fn read_nullable(r: &mut Reader<'a>, v: i16, flex: bool) -> Result<Option<Self>, DecodeError>;
}

/// The writing side of [`ReadNullable`].
pub trait WriteNullable: WriteWire {
    /// Writes null.
    fn write_null(w: &mut Writer, flex: bool) -> Result<(), EncodeError>;
    /// Writes a value that is not null.
    fn write_some(&self, w: &mut Writer, v: i16, flex: bool) -> Result<(), EncodeError> {
        self.write(w, v, flex)
    }
}

/// A struct that some field holds or lacks: a byte says which.
pub trait NullableStruct {}

macro_rules! plain {
    ($($ty:ty, $bytes:literal, $read:ident, $write:ident;)*) => {$(
        impl<'a> ReadWire<'a> for $ty {
            const MIN_BYTES: usize = $bytes;
            #[inline]
            fn read(r: &mut Reader<'a>, _: i16, _: bool) -> Result<Self, DecodeError> {
                r.array_of().map(<$ty>::from_be_bytes)
            }
        }

        impl WriteWire for $ty {
            #[inline]
            fn write(&self, w: &mut Writer, _: i16, _: bool) -> Result<(), EncodeError> {
                w.put(&self.to_be_bytes());
                Ok(())
            }
        }
    )*};
}

plain! {
    i8, 1, i8, i8;
    i16, 2, i16, i16;
    u16, 2, u16, u16;
    i32, 4, i32, i32;
    u32, 4, u32, u32;
    i64, 8, i64, i64;
    f64, 8, f64, f64;
}

impl<'a> ReadWire<'a> for bool {
    const MIN_BYTES: usize = 1;
    #[inline]
    fn read(r: &mut Reader<'a>, _: i16, _: bool) -> Result<Self, DecodeError> {
        Ok(r.i8()? != 0)
    }
}

impl WriteWire for bool {
    #[inline]
    fn write(&self, w: &mut Writer, _: i16, _: bool) -> Result<(), EncodeError> {
        w.i8((*self).into());
        Ok(())
    }
}

impl<'a> ReadWire<'a> for Uuid {
    const MIN_BYTES: usize = 16;
    #[inline]
    fn read(r: &mut Reader<'a>, _: i16, _: bool) -> Result<Self, DecodeError> {
        r.uuid()
    }
}

impl WriteWire for Uuid {
    #[inline]
    fn write(&self, w: &mut Writer, _: i16, _: bool) -> Result<(), EncodeError> {
        w.put(&self.0);
        Ok(())
    }
}

/// Types that are null where their length says so.
macro_rules! lengthy {
    ($($ty:ty, $wty:ty, |$r:ident, $flex:ident| $read:expr, |$this:ident, $w:ident, $wflex:ident| $write:expr,
        |$nw:ident, $nflex:ident| $null:expr;)*) => {$(
        impl<'a> ReadWire<'a> for $ty {
            const MIN_BYTES: usize = 1;
            fn read(r: &mut Reader<'a>, v: i16, flex: bool) -> Result<Self, DecodeError> {
                <$ty>::read_nullable(r, v, flex)?.ok_or(DecodeError::Null)
            }
        }

        impl<'a> ReadNullable<'a> for $ty {
            fn read_nullable(
                $r: &mut Reader<'a>,
                _: i16,
                $flex: bool,
            ) -> Result<Option<Self>, DecodeError> {
                $read
            }
        }

        impl WriteWire for $wty {
            fn write(&self, $w: &mut Writer, _: i16, $wflex: bool) -> Result<(), EncodeError> {
                let $this = self;
                $write
            }
        }

        impl WriteNullable for $wty {
            fn write_null($nw: &mut Writer, $nflex: bool) -> Result<(), EncodeError> {
                $null
            }
        }
    )*};
}

lengthy! {
    &'a str, &str, |r, flex| r.text(flex), |this, w, flex| w.text(Some(this), flex),
        |w, flex| w.text(None, flex);
    String, String, |r, flex| Ok(r.text(flex)?.map(str::to_owned)),
        |this, w, flex| w.text(Some(this), flex), |w, flex| w.text(None, flex);
    &'a [u8], &[u8], |r, flex| r.byte_string(flex), |this, w, flex| w.byte_string(Some(this), flex),
        |w, flex| w.byte_string(None, flex);
    Bytes, Bytes, |r, flex| Ok(r.byte_string(flex)?.map(Bytes::copy_from_slice)),
        |this, w, flex| w.byte_string(Some(this), flex), |w, flex| w.byte_string(None, flex);
    Records, Records, |r, flex| Ok(r.byte_string(flex)?.map(|part| r.share(part).into())),
        |this, w, flex| this.put(w, flex), |w, flex| w.byte_string(None, flex);
}

impl<'a, T: ReadWire<'a>> ReadWire<'a> for Vec<T> {
    const MIN_BYTES: usize = 1;
    fn read(r: &mut Reader<'a>, v: i16, flex: bool) -> Result<Self, DecodeError> {
        Vec::read_nullable(r, v, flex)?.ok_or(DecodeError::Null)
    }
}

impl<'a, T: ReadWire<'a>> ReadNullable<'a> for Vec<T> {
    fn read_nullable(r: &mut Reader<'a>, v: i16, flex: bool) -> Result<Option<Self>, DecodeError> {
        let Some(count) = r.count(flex, T::MIN_BYTES)? else {
            return Ok(None);
        };
        let affordable = r.remaining() * RESERVE_RATIO / size_of::<T>().max(1);
        let mut elements = Vec::with_capacity(count.min(affordable));
        for _ in 0..count {
            elements.push(T::read(r, v, flex)?);
        }
        Ok(Some(elements))
    }
}

impl<T: WriteWire> WriteWire for Vec<T> {
    fn write(&self, w: &mut Writer, v: i16, flex: bool) -> Result<(), EncodeError> {
        w.count(Some(self.len()), flex)?;
        self.iter()
            .try_for_each(|element| element.write(w, v, flex))
    }
}

impl<T: WriteWire> WriteNullable for Vec<T> {
    fn write_null(w: &mut Writer, flex: bool) -> Result<(), EncodeError> {
        w.count(None, flex)
    }
}

impl<'a, T: NullableStruct + ReadWire<'a>> ReadNullable<'a> for T {
    fn read_nullable(r: &mut Reader<'a>, v: i16, flex: bool) -> Result<Option<Self>, DecodeError> {
        if r.i8()? < 0 {
            return Ok(None);
        }
        T::read(r, v, flex).map(Some)
    }
}

impl<T: NullableStruct + WriteWire> WriteNullable for T {
    fn write_null(w: &mut Writer, _: bool) -> Result<(), EncodeError> {
        w.i8(-1);
        Ok(())
    }

    fn write_some(&self, w: &mut Writer, v: i16, flex: bool) -> Result<(), EncodeError> {
        w.i8(1);
        self.write(w, v, flex)
    }
}

impl<'a, T: ReadNullable<'a>> ReadWire<'a> for Option<T> {
    const MIN_BYTES: usize = 1;
    #[inline]
    fn read(r: &mut Reader<'a>, v: i16, flex: bool) -> Result<Self, DecodeError> {
        T::read_nullable(r, v, flex)
    }
}

impl<T: WriteNullable> WriteWire for Option<T> {
    #[inline]
    fn write(&self, w: &mut Writer, v: i16, flex: bool) -> Result<(), EncodeError> {
        match self {
            Some(value) => value.write_some(w, v, flex),
            None => T::write_null(w, flex),
        }
    }
}

/// Reads a nullable struct that is a tagged field: there null is a varint of zero.
pub fn read_tagged_struct<'a, T: ReadWire<'a>>(
    r: &mut Reader<'a>,
    v: i16,
    flex: bool,
) -> Result<Option<T>, DecodeError> {
    // Kafka reads a signed number here, and takes those below zero for null too.
    if r.unsigned_varint()?.cast_signed() <= 0 {
        return Ok(None);
    }
    T::read(r, v, flex).map(Some)
}

/// Writes a nullable struct that is a tagged field.
pub fn write_tagged_struct<T: WriteWire>(
    value: &Option<T>,
    w: &mut Writer,
    v: i16,
) -> Result<(), EncodeError> {
    match value {
        Some(value) => {
            w.unsigned_varint(1);
            value.write(w, v, true)
        }
        None => {
            w.unsigned_varint(0);
            Ok(())
        }
    }
}

/// The error for a field that is set where the version has no place for it.
#[cold]
pub fn absent<T>(field: &'static str, version: i16) -> EncodeError {
    EncodeError::Absent {
        structure: std::any::type_name::<T>(),
        field,
        version,
    }
}

/// The error for a field that is null where the version does not allow it.
#[cold]
pub fn null<T>(field: &'static str, version: i16) -> EncodeError {
    EncodeError::Null {
        structure: std::any::type_name::<T>(),
        field,
        version,
    }
}
