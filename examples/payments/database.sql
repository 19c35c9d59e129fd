-- Run once, by a superuser: who owns the tables is not who serves requests.
CREATE ROLE payments LOGIN;
CREATE ROLE payments_app LOGIN;
