//! A disk in memory that fails, tears and forgets on command.
