{% set some_days = counts_some_days() %}
{#- dbt notes what a model depends on while nothing is executed. -#}
{% set days = ref('int_kpi_days') if some_days or not execute %}

with all_sessions as (
    select * from {{ ref('fct_sessions') }}
),

sessions as (
    select * from all_sessions
    {% if some_days %}where (shop, session_date) in (select shop, day from {{ days }}){% endif %}
),

first_of_clients as (
    select session_key
    from all_sessions
    where client_id is not null
        {% if some_days %}and client_id in (select client_id from sessions){% endif %}
    qualify row_number() over (partition by shop, client_id order by started_at, session_key) = 1
),

transactions as (
    select * from {{ ref('fct_transactions') }}
),

orders as (
    select
        session_key,
        count(case when line_count > 0 then 1 end) as transaction_count,
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
        first_of_clients.session_key is not null as is_first_of_client,
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
    left join first_of_clients on sessions.session_key = first_of_clients.session_key
)

select * from session_kpis
