"""A whole job: the operations of many ranks, who waited for whom, and what that cost."""
