-- Figures that add up over hours equal the day. Clients do not add up: one can be active in many hours of a day.
{% set counts = [
    'sessions', 'new_clients', 'events', 'pageviews', 'details', 'adds', 'removes', 'transactions',
    'sessions_with_detail', 'sessions_with_add', 'buying_sessions',
] %}
{% set amounts = ['revenue', 'tax', 'shipping'] %}

with hours as (
    select
        shop,
        cast(hour as date) as day,
        max(active_clients) as most_clients,
        sum(active_clients) as all_clients,
        {% for column in counts + amounts -%}
        sum({{ column }}) as {{ column }}{{ ',' if not loop.last }}
        {% endfor %}
    from {{ ref('kpi_hourly') }}
    group by shop, cast(hour as date)
),

days as (
    select * from {{ ref('kpi_daily') }}
),

amounts as (
    {{ amounts_by_shop() }}
)

select coalesce(hours.shop, days.shop) as shop, coalesce(hours.day, days.day) as day
from hours
full outer join days
    on hours.shop = days.shop
    and hours.day = days.day
left join amounts on days.shop = amounts.shop
where hours.shop is null
    or days.shop is null
    or days.active_clients not between hours.most_clients and hours.all_clients
    {% for column in counts -%}
    or hours.{{ column }} != days.{{ column }}
    {% endfor -%}
    {% for column in amounts -%}
    -- Sums of doubles depend on their order, by a small share of the absolute amounts.
    or abs(hours.{{ column }} - days.{{ column }}) > 0.000001 * greatest(1, coalesce(amounts.amount, 0))
    {% endfor %}
