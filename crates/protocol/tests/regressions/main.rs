//! Bugs that exploration, simulation and review found, each as the shortest script that failed before its fix.

mod agreement;
mod bench;
mod log;
mod promotion;
