//! The pages and the programs say the same: what the README runs, what the options are, what the programs print and
//! what they are made of; and the sources keep the rules of the house.

mod configuration;
mod dependencies;
mod help;
mod readme;
mod tidy;
