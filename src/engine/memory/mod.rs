//! The in-process engine: the reference model.
