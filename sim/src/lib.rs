//! Simulation of whole nodes on a seeded clock, disk and network.
