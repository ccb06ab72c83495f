//! Reads sequences from YAML.
