{{ config(materialized='incremental', incremental_strategy='by_day', day_column='day') }}
-- depends_on: {{ ref('int_kpi_days') }}

with sessions as (
    select * from {{ ref('int_session_kpis') }}
),

days as (
    select
        shop,
        session_date as day,
        {{ kpi_measures() }}
    from sessions
    group by shop, session_date
)

select * from days
