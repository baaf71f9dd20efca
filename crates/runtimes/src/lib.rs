//! The languages: catalogue, discovery, stages
