//! Tests of the whole service without a network.
