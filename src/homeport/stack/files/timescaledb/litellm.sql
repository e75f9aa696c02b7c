-- A database for LiteLLM, and a role that owns it and may read nothing else. The service litellm-database runs
-- this before LiteLLM starts: again and again, and in databases that are older than it.

\set ON_ERROR_STOP on
\getenv password LITELLM_DB_PASSWORD
SELECT 'CREATE ROLE litellm' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'litellm') \gexec
ALTER ROLE litellm LOGIN PASSWORD :'password';
SELECT 'CREATE DATABASE litellm OWNER litellm'
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'litellm') \gexec
REVOKE ALL ON DATABASE litellm FROM PUBLIC;
