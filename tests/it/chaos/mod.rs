//! The service while things break: real processes killed, paused and led astray. The short form runs with the other tests, the long
//! one with `USHER_CHAOS=1`.

mod clock;
mod dice;
mod growth;
mod rate;
