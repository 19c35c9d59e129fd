-- Run once, by a superuser: who owns the tables is not who serves requests.
CREATE ROLE shop LOGIN;
CREATE ROLE shop_app LOGIN;
