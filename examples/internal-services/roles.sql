-- Run once, by a superuser: who owns the tables is not who serves requests.
CREATE ROLE internal LOGIN;
CREATE ROLE internal_api LOGIN;
