-- Every session, event and order counts on exactly one day.
with kpis as (
    select
        shop,
        sum(sessions) as sessions,
        sum(events) as events,
        sum(transactions) as transactions,
        sum(revenue) as revenue
    from {{ ref('kpi_daily') }}
    group by shop
),

sessions as (
    select
        shop,
        count(*) as sessions,
        sum(event_count) as events
    from {{ ref('fct_sessions') }}
    group by shop
),

orders as (
    select
        shop,
        count(case when line_count > 0 then 1 end) as transactions,
        sum(revenue) as revenue
    from {{ ref('fct_transactions') }}
    group by shop
),

amounts as (
    {{ amounts_by_shop() }}
)

select coalesce(kpis.shop, sessions.shop) as shop
from kpis
full outer join sessions on kpis.shop = sessions.shop
left join orders on kpis.shop = orders.shop
left join amounts on kpis.shop = amounts.shop
where kpis.shop is null
    or sessions.shop is null
    or kpis.sessions != sessions.sessions
    or kpis.events != sessions.events
    or kpis.transactions != coalesce(orders.transactions, 0)
    -- Sums of doubles depend on their order, by a small share of the absolute amounts.
    or abs(kpis.revenue - coalesce(orders.revenue, 0)) > 0.000001 * greatest(1, coalesce(amounts.amount, 0))
