//! Bugs that exploration, simulation and review found, and such as were planted and not seen at once, each as the shortest
//! script that failed before its fix.

mod agreement;
mod bench;
mod disks;
mod log;
mod promotion;
mod reading;
mod relocation;
mod witness;
