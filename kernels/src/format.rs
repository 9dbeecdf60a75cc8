//! The tensor types of GGUF files, as ggml defines them.
//!
//! Every quantised weight is `scale · code + offset`. A *code* has 2 to 8 bits; scale and offset apply to 32 columns or to 16. A
//! block holds 32 columns of one row, or 256 (K-quants and IQ4_XS). In the types IQ4 a weight is stored as the index of its code in a
//! table ([`IQ4_CODES`]).

/// The codes of IQ4_NL and IQ4_XS, by their 4-bit index. They are denser around zero, as weights are.
pub const IQ4_CODES: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// The tensor types that a model may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    F32,
    F16,
    Bf16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2K,
    Q3K,
    Q4K,
    Q5K,
    Q6K,
    Iq4Nl,
    Iq4Xs,
}

impl Format {
    pub const ALL: [Self; 15] = [
        Self::F32,
        Self::F16,
        Self::Bf16,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q2K,
        Self::Q3K,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
        Self::Iq4Nl,
        Self::Iq4Xs,
    ];

    /// The type with a number in GGUF files (`ggml_type`); `None` if it is not one of these.
    pub const fn from_ggml_type(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::F32,
            1 => Self::F16,
            2 => Self::Q4_0,
            3 => Self::Q4_1,
            6 => Self::Q5_0,
            7 => Self::Q5_1,
            8 => Self::Q8_0,
            10 => Self::Q2K,
            11 => Self::Q3K,
            12 => Self::Q4K,
            13 => Self::Q5K,
            14 => Self::Q6K,
            20 => Self::Iq4Nl,
            23 => Self::Iq4Xs,
            30 => Self::Bf16,
            _ => return None,
        })
    }

    /// The usual name, such as `Q4_K`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Q8_0 => "Q8_0",
            Self::Q2K => "Q2_K",
            Self::Q3K => "Q3_K",
            Self::Q4K => "Q4_K",
            Self::Q5K => "Q5_K",
            Self::Q6K => "Q6_K",
            Self::Iq4Nl => "IQ4_NL",
            Self::Iq4Xs => "IQ4_XS",
        }
    }

    /// Whether weights are integer codes, which are multiplied by quantised activations.
    pub const fn is_quantised(self) -> bool {
        !matches!(self, Self::F32 | Self::F16 | Self::Bf16)
    }

    /// Columns per block: 1, 32 or 256.
    pub const fn columns(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 | Self::Iq4Nl => 32,
            Self::Q2K | Self::Q3K | Self::Q4K | Self::Q5K | Self::Q6K | Self::Iq4Xs => 256,
        }
    }

    /// f16 numbers per block from which scales and offsets are computed: 0, 1 or 2.
    pub const fn f16_count(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => 0,
            Self::Q4_0 | Self::Q5_0 | Self::Q8_0 | Self::Q3K | Self::Q6K | Self::Iq4Nl | Self::Iq4Xs => 1,
            Self::Q4_1 | Self::Q5_1 | Self::Q2K | Self::Q4K | Self::Q5K => 2,
        }
    }

    /// 16-bit integers per block with upper bits of the scales of its parts: 1 for IQ4_XS.
    pub const fn scale_halves(self) -> usize {
        matches!(self, Self::Iq4Xs) as usize
    }

    /// 32-bit words per block that hold the scales of its parts of 32 or 16 columns.
    pub const fn scale_words(self) -> usize {
        match self {
            Self::Q2K | Self::Q6K => 4,
            Self::Q3K | Self::Q4K | Self::Q5K => 3,
            Self::Iq4Xs => 1,
            _ => 0,
        }
    }

    /// Whether scale and offset apply to 16 columns instead of 32.
    pub const fn has_scale_per_16(self) -> bool {
        matches!(self, Self::Q2K | Self::Q3K | Self::Q6K)
    }

    /// Whether weights have an offset in addition to their scale.
    pub const fn has_offset(self) -> bool {
        self.is_quantised() && !self.has_signed_codes()
    }

    /// Whether codes are signed, −128 to 127. Otherwise they are not negative.
    pub const fn has_signed_codes(self) -> bool {
        matches!(self, Self::Q8_0) || self.has_table()
    }

    /// Whether the bits of a weight are an index into [`IQ4_CODES`].
    pub const fn has_table(self) -> bool {
        matches!(self, Self::Iq4Nl | Self::Iq4Xs)
    }

    /// Bits per weight: those of its code or index, or of the float itself. Excludes scales and offsets.
    pub const fn bits(self) -> usize {
        match self {
            Self::F32 => 32,
            Self::F16 | Self::Bf16 => 16,
            Self::Q8_0 => 8,
            Self::Q6K => 6,
            Self::Q5_0 | Self::Q5_1 | Self::Q5K => 5,
            Self::Q4_0 | Self::Q4_1 | Self::Q4K | Self::Iq4Nl | Self::Iq4Xs => 4,
            Self::Q3K => 3,
            Self::Q2K => 2,
        }
    }

    /// Bytes of a block in the file.
    pub const fn file_bytes(self) -> usize {
        self.f16_count() * 2 + self.scale_halves() * 2 + self.scale_words() * 4 + self.columns() * self.bits() / 8
    }

    /// Bytes of a `[rows, columns]` tensor in the file. `columns` is a multiple of [`Format::columns`].
    pub const fn tensor_bytes(self, rows: usize, columns: usize) -> u64 {
        rows as u64 * (columns / self.columns()) as u64 * self.file_bytes() as u64
    }
}
