"""`kimi doctor`: what works here, what does not, and what to do; and the trial requests that
`kimi login` makes as well."""
