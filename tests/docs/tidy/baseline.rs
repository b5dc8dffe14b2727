//! Where the tree does not keep a rule of [`super`] yet. These lists may only become shorter.

/// Files above 500 lines.
pub(super) const LONG_FILES: [&str; 0] = [];

/// Files of a crate that are in circles of imports.
pub(super) const FILES_IN_CIRCLES: [&str; 0] = [];

/// Functions above 70 lines.
pub(super) const LONG_FUNCTIONS: [&str; 0] = [];

/// Structs of a core with more than 15 fields, and how many they have.
pub(super) const WIDE_STRUCTS: [&str; 0] = [];

/// `impl` blocks that are neither beside nor below their types.
pub(super) const FOREIGN_IMPLS: [&str; 0] = [];

/// Documentation comments of a crate that have a forbidden word.
pub(super) const FORBIDDEN_WORDS: [&str; 0] = [];

/// Documentation comments of a crate that say no more than the name of the item.
pub(super) const EMPTY_COMMENTS: [&str; 0] = [];
