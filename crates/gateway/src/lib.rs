//! HTTP and WebSocket: routes, admission, metrics
