//! The kinds of resources, from the ground up: bring-up walks the list forwards, tear-down backwards.

