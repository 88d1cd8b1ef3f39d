{% set look_back = 60 %}{# days: the newest needs 28 before it #}
{% set types = ['pageview', 'detail', 'add', 'remove', 'purchase', 'click', 'search'] %}
{% set trailing = 'over (partition by shop order by day rows between 28 preceding and 1 preceding)' %}
{#- A shop may be closed every Sunday: that is no outage. -#}
{% set same_weekday = (
    'over (partition by shop, dayofweek(day) order by day rows between 4 preceding and 1 preceding)'
) %}

with events as (
    select
        shop,
        cast(event_time as date) as day,
        event_type,
        product_id
    from {{ ref('fct_session_events') }}
),

products as (
    select
        shop,
        product_id,
        cast(first_seen_at as date) as first_seen_on
    from {{ ref('dim_products') }}
),

shops as (
    select
        shop,
        cast(min(started_at) as date) as oldest_day,
        cast(max(ended_at) as date) as newest_day
    from {{ ref('fct_sessions') }}
    group by shop
),

digits as (
    {% for digit in range(10) -%}
    select {{ digit }} as digit {{ 'union all' if not loop.last }}
    {% endfor %}
),

-- Days without an event too: they are what is looked for.
calendar as (
    select
        shops.shop,
        shops.newest_day - (10 * tens.digit + ones.digit) as day,
        shops.newest_day
    from shops
    cross join digits as tens
    cross join digits as ones
    where 10 * tens.digit + ones.digit <= {{ look_back }}
        and shops.newest_day - (10 * tens.digit + ones.digit) >= shops.oldest_day
),

recent as (
    select events.*
    from events
    inner join shops on events.shop = shops.shop
    where events.day >= shops.newest_day - {{ look_back }}
),

counted as (
    select
        recent.shop,
        recent.day,
        count(*) as events,
        count(recent.product_id) as product_events,
        count(products.product_id) as unseen_product_events,
        {% for type in types -%}
        count(case when recent.event_type = '{{ type }}' then 1 end) as {{ type }}_events{{ ',' if not loop.last }}
        {% endfor %}
    from recent
    left join products
        on recent.shop = products.shop
        and recent.product_id = products.product_id
        and recent.day = products.first_seen_on
    group by recent.shop, recent.day
),

days as (
    select
        calendar.shop,
        calendar.day,
        calendar.day = calendar.newest_day - 1 as is_newest_complete,
        {% for column in ['events', 'product_events', 'unseen_product_events'] -%}
        coalesce({{ column }}, 0) as {{ column }},
        {% endfor -%}
        {% for type in types -%}
        coalesce({{ type }}_events, 0) as {{ type }}_events{{ ',' if not loop.last }}
        {% endfor %}
    from calendar
    left join counted
        on calendar.shop = counted.shop
        and calendar.day = counted.day
),

beside_trailing as (
    select
        *,
        row_number() over (partition by shop order by day) - 1 as days_before,
        count(*) {{ same_weekday }} as weekdays_before,
        {% for column in ['events', 'product_events'] -%}
        avg({{ column }}) {{ same_weekday }} as weekday_{{ column }},
        {% endfor -%}
        {% for type in types -%}
        avg({{ type }}_events) {{ trailing }} as trailing_{{ type }}_events,
        {% endfor -%}
        avg(product_events) {{ trailing }} as trailing_product_events,
        avg(events) {{ trailing }} as trailing_events
    from days
),

volume as (
    select
        shop,
        day,
        is_newest_complete,
        events,
        product_events,
        {% for column in ['events', 'product_events'] -%}
        case
            when days_before < 7 then null
            when weekdays_before < 2 then trailing_{{ column }}
            else least(trailing_{{ column }}, weekday_{{ column }})
        end as expected_{{ column }},
        {% endfor -%}
        case
            when days_before >= 7 and events > 0 and trailing_events > 0
                then (
                    {% for type in types -%}
                    abs({{ type }}_events / cast(events as double) - trailing_{{ type }}_events / trailing_events)
                    {{ '+' if not loop.last }}
                    {% endfor -%}
                ) / 2
        end as mix_drift,
        case
            when days_before >= 7 and events > 0
                then
                    {% for type in types -%}
                    case when {{ type }}_events = 0 and trailing_{{ type }}_events >= 20 then 1 else 0 end
                    {{ '+' if not loop.last }}
                    {% endfor %}
        end as vanished_types,
        case
            when days_before >= 7 and product_events > 0
                then unseen_product_events / cast(product_events as double)
        end as unseen_product_share
    from beside_trailing
)

select * from volume
