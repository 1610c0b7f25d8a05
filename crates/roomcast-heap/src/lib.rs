//! Gives memory that the C allocator keeps back to the system.
//!
//! A crate of its own, because it takes the only call of roomcast that Rust cannot check.

/// Has glibc return the free pages of all its arenas, which it keeps for as long as the process lives
/// otherwise. Takes some milliseconds for each hundred megabytes that are free, and holds up whoever
/// allocates from an arena meanwhile. Returns whether anything was given back; with another C library
/// nothing is done.
///
/// Source: <https://man7.org/linux/man-pages/man3/malloc_trim.3.html>.
pub fn release() -> bool {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: it has no preconditions, and takes the allocator's own locks.
        unsafe { libc::malloc_trim(0) == 1 }
    }
    #[cfg(not(target_env = "gnu"))]
    {
        false
    }
}
