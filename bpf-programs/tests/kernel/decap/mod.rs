//! The backend's side: the program and a model of it on the same frames, and its maps.

pub mod bed;
mod cases;
mod lengths;
mod model;
mod pins;
mod random;
