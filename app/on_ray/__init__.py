"""The service, its bulk enrolment and its training on a Ray cluster. Needs the extra `ray`; nothing else imports it."""
