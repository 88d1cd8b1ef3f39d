-- Everything Boat needs in a Snowflake account. Run it as often as you like; nothing that is there is replaced:
--   snow sql --filename deployments/snowflake/setup.sql
-- Run as ACCOUNTADMIN, because only this role can create a resource monitor. Then set the key of the service user:
--   alter user boat_service set rsa_public_key = '…';

use role accountadmin;

-- Compute: the smallest warehouse, which suspends after a minute and stops statements after an hour.
create resource monitor if not exists boat
    with credit_quota = 50
    frequency = monthly
    start_timestamp = immediately
    triggers
        on 80 percent do notify
        on 100 percent do suspend
        on 110 percent do suspend_immediate;

create warehouse if not exists boat
    warehouse_size = 'XSMALL'
    auto_suspend = 60
    auto_resume = true
    initially_suspended = true
    statement_timeout_in_seconds = 3600
    statement_queued_timeout_in_seconds = 600;

alter warehouse boat set resource_monitor = boat;

-- Storage: a database for Boat only. dbt creates its schemas in it.
create database if not exists boat data_retention_time_in_days = 7;
create schema if not exists boat.raw;

create file format if not exists boat.raw.parquet type = parquet;
create stage if not exists boat.raw.landing;
create stage if not exists boat.raw.snapshots;

-- Staged rows on their way to the raw log, one record each. A transaction fills and empties the table.
create transient table if not exists boat.raw.landing_rows (record variant) data_retention_time_in_days = 0;

-- A lock with one row. Each load updates it first, so that other loads wait until its transaction ends.
create transient table if not exists boat.raw.turn (taken_at timestamp_ntz) data_retention_time_in_days = 0;

-- Roles. The service user of the flows has `boat`, which includes the others. Grant `boat_read` to people.
create role if not exists boat_load;
create role if not exists boat_transform;
create role if not exists boat_read;
create role if not exists boat;

grant usage on warehouse boat to role boat_load;
grant usage on warehouse boat to role boat_transform;
grant usage on warehouse boat to role boat_read;
grant usage on database boat to role boat_load;
grant usage on database boat to role boat_transform;
grant usage on database boat to role boat_read;

-- boat_load: loads landing files into the raw log. It creates and owns these tables.
grant usage, create table on schema boat.raw to role boat_load;
grant select, insert, delete on table boat.raw.landing_rows to role boat_load;
grant select, insert, update on table boat.raw.turn to role boat_load;
grant read, write on stage boat.raw.landing to role boat_load;

-- boat_transform: builds the marts from the raw log. It creates and owns their schemas.
grant create schema on database boat to role boat_transform;
grant usage on schema boat.raw to role boat_transform;
grant select on all tables in schema boat.raw to role boat_transform;
grant select on future tables in schema boat.raw to role boat_transform;

-- boat_read: reads for checks, reports and snapshots. It writes only the files of a snapshot.
grant usage on all schemas in database boat to role boat_read;
grant usage on future schemas in database boat to role boat_read;
grant select on all tables in database boat to role boat_read;
grant select on future tables in database boat to role boat_read;
grant select on all views in database boat to role boat_read;
grant select on future views in database boat to role boat_read;
-- Future grants on a schema override the future grants on its database.
grant select on future tables in schema boat.raw to role boat_read;
grant read, write on stage boat.raw.snapshots to role boat_read;

grant role boat_load to role boat;
grant role boat_transform to role boat;
grant role boat_read to role boat;

create user if not exists boat_service
    type = service
    default_role = boat
    default_warehouse = boat
    comment = 'Boat flows: key pair only';
-- Defaults for tools that do not set session parameters.
alter user boat_service set
    statement_timeout_in_seconds = 3600
    timezone = 'UTC'
    timestamp_type_mapping = 'TIMESTAMP_NTZ';
grant role boat to user boat_service;
grant role boat to role sysadmin;
