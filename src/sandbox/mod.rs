//! The sandbox: the platform, played by us.
