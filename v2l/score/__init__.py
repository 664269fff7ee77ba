"""How good an answer is: text scores, statistics over clips, a judge."""
