"""Access control: what each key allows, and its quotas."""
