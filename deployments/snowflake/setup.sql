-- Everything Boat needs in a Snowflake account. Run it as often as you like; nothing that is there is replaced:
--   snow sql --filename deployments/snowflake/setup.sql
-- Run as ACCOUNTADMIN: a resource monitor can be made by nobody else. Then give the service user its key:
--   alter user boat_service set rsa_public_key = '…';

use role accountadmin;

-- What computes: the smallest size, asleep after a minute, no statement longer than an hour.
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

-- Where data lies. dbt makes its schemas itself, in a database that belongs to nothing else.
create database if not exists boat data_retention_time_in_days = 7;
create schema if not exists boat.raw;

create file format if not exists boat.raw.parquet type = parquet;
create stage if not exists boat.raw.landing;
create stage if not exists boat.raw.snapshots;

-- Rows between a stage and the raw log, one record each; filled and emptied in one transaction.
create transient table if not exists boat.raw.landing_rows (record variant) data_retention_time_in_days = 0;

-- One row, which a load updates first: another load's update waits until that transaction ends.
create transient table if not exists boat.raw.turn (taken_at timestamp_ntz) data_retention_time_in_days = 0;

-- Duties. `boat` has all of them, for the one service user of the flows; give people `boat_read`.
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

-- boat_load: landing files to the raw log, whose tables it makes and owns.
grant usage, create table on schema boat.raw to role boat_load;
grant select, insert, delete on table boat.raw.landing_rows to role boat_load;
grant select, insert, update on table boat.raw.turn to role boat_load;
grant read, write on stage boat.raw.landing to role boat_load;

-- boat_transform: raw log to marts, whose schemas it makes and owns.
grant create schema on database boat to role boat_transform;
grant usage on schema boat.raw to role boat_transform;
grant select on all tables in schema boat.raw to role boat_transform;
grant select on future tables in schema boat.raw to role boat_transform;

-- boat_read: checks, reports and snapshots. It writes nothing but the files of a snapshot.
grant usage on all schemas in database boat to role boat_read;
grant usage on future schemas in database boat to role boat_read;
grant select on all tables in database boat to role boat_read;
grant select on future tables in database boat to role boat_read;
grant select on all views in database boat to role boat_read;
grant select on future views in database boat to role boat_read;
-- Future grants on a schema put those on its database out of force there.
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
-- Also for tools that set no session parameters of their own.
alter user boat_service set
    statement_timeout_in_seconds = 3600
    timezone = 'UTC'
    timestamp_type_mapping = 'TIMESTAMP_NTZ';
grant role boat to user boat_service;
grant role boat to role sysadmin;
