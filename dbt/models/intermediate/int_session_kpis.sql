with sessions as (
    select * from {{ ref('fct_sessions') }}
),

transactions as (
    select * from {{ ref('fct_transactions') }}
),

orders as (
    select
        session_key,
        count(*) as transaction_count,
        sum(revenue) as revenue,
        sum(tax) as tax,
        sum(shipping) as shipping
    from transactions
    group by session_key
),

session_kpis as (
    select
        sessions.shop,
        sessions.client_id,
        sessions.started_at,
        sessions.session_date,
        sessions.client_id is not null and row_number() over (
            partition by sessions.shop, sessions.client_id order by sessions.started_at, sessions.session_key
        ) = 1 as is_first_of_client,
        sessions.is_purchase,
        sessions.event_count,
        sessions.pageview_count,
        sessions.detail_count,
        sessions.add_count,
        sessions.remove_count,
        sessions.detail_count > 0 as has_detail,
        sessions.add_count > 0 as has_add,
        coalesce(orders.transaction_count, 0) as transaction_count,
        coalesce(orders.revenue, 0) as revenue,
        coalesce(orders.tax, 0) as tax,
        coalesce(orders.shipping, 0) as shipping
    from sessions
    left join orders on sessions.session_key = orders.session_key
)

select * from session_kpis
