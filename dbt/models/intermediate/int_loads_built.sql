{{ config(materialized='incremental', incremental_strategy='append', tmp_relation_type='transient') }}

-- Last of all, so that a build that stops before leaves its loads pending.
-- depends_on: {{ ref('fct_session_events') }}, {{ ref('fct_sessions') }}
-- depends_on: {{ ref('recommend_examples') }}, {{ ref('intent_examples') }}
-- depends_on: {{ ref('kpi_daily') }}, {{ ref('kpi_hourly') }}

with pending as (
    select * from {{ ref('int_loads_pending') }}
)

select load_id from pending
