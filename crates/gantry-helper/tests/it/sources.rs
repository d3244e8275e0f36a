//! Sources from real repositories.
