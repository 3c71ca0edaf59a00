//! The programs are in the directories beside this one, each with what it serves.
