"""Several processes behind one port: started, kept running, and joined to one server."""
