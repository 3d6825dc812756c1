//! Trainable vector fields with closed-form derivatives.
