//! Address translation: the programs and a model of them on the same frames, and their maps.

mod bed;
mod cases;
mod model;
mod pins;
mod random;
mod talk;
