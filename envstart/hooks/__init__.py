"""Hooks that CBSD runs: env_start_BACKEND, env_stop_BACKEND, env_poststop, env_remove, env_clone_nfs."""
