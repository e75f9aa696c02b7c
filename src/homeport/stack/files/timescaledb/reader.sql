-- A role for dashboards: it may read homeport_usage, and neither captures nor anything else. homeport
-- itself grants that, when it makes the table. Run by the image when it sets the database up; again by
-- hand, for a database that is older, or a new password:
--
--   docker compose exec timescaledb psql -U homeport -d homeport -f /docker-entrypoint-initdb.d/020_homeport_reader.sql

\set ON_ERROR_STOP on
\getenv password HOMEPORT_DB_READER_PASSWORD
\if :{?password}
SELECT 'CREATE ROLE homeport_reader'
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'homeport_reader') \gexec
ALTER ROLE homeport_reader LOGIN PASSWORD :'password';
ALTER ROLE homeport_reader SET default_transaction_read_only = on;
ALTER ROLE homeport_reader SET statement_timeout = '30s';
SELECT 'GRANT SELECT ON homeport_usage TO homeport_reader'
WHERE to_regclass('homeport_usage') IS NOT NULL \gexec
\else
\warn 'HOMEPORT_DB_READER_PASSWORD is not set: dashboards cannot read the usage'
\endif
