"""What is made of the table of metrics: Grafana's dashboard, Prometheus's alert rules, and the page
of the reference.  Nothing of it is needed to run the daemon.
"""
