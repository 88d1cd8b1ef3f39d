{{ config(materialized='incremental', incremental_strategy='by_day', day_column='hour') }}
-- depends_on: {{ ref('int_kpi_days') }}

with sessions as (
    select * from {{ ref('int_session_kpis') }}
),

hours as (
    select
        shop,
        date_trunc('hour', started_at) as hour,
        {{ kpi_measures() }}
    from sessions
    group by shop, date_trunc('hour', started_at)
)

select * from hours
