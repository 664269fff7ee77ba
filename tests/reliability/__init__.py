"""By-hand programs that try to lose or break something, a topic each; the tests run them with bounded counts."""
