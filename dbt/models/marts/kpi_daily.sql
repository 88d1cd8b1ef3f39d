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
