{{ config(materialized='incremental', incremental_strategy='by_session') }}
{% set in_session_order = '(partition by session_key order by position)' %}
{% set is_item = "event_type in ('detail', 'click', 'add', 'purchase')" %}
{% set events_back = [1, 2, 3] %}

with events as (
    select
        session_key,
        shop,
        position,
        event_time,
        event_type,
        product_id,
        url,
        -- What the shopper was at: named as `boat.models.pages` says.
        case
            when event_type in ('add', 'remove', 'purchase') and product_id is not null
                then event_type || ':' || product_id
            else {{ page_or_search() }}
        end as place
    from {{ changed_or_all_events(ref('fct_session_events')) }}
    where event_type != 'purchase' or {{ is_buy() }}
),

sessions as (
    select * from {{ ref('fct_sessions') }}
),

-- One sort for all of it: this is every event there is.
beside_previous as (
    select
        *,
        {% for back in events_back -%}
        lag(place, {{ back }}) over {{ in_session_order }} as place_{{ back }},
        lag(event_time, {{ back }}) over {{ in_session_order }} as time_{{ back }},
        {% endfor -%}
        {{ lag_of_known('case when ' ~ is_item ~ ' then product_id end', in_session_order) }} as previous_product_id
    from events
),

collapsed as (
    select
        *,
        -- The view of the item's own page comes with it, or some milliseconds before: it would give the item away.
        case
            {% for back in events_back -%}
            when place_{{ back }} != coalesce(url, '') and {{ seconds_between('time_' ~ back, 'event_time') }} >= 1
                then place_{{ back }}
            {% endfor -%}
        end as url_before,
        row_number() over (partition by session_key order by position) as item_position,
        count(*) over (partition by session_key) as item_count
    from beside_previous
    where {{ is_item }} and (previous_product_id is null or product_id != previous_product_id)
),

examples as (
    select
        collapsed.session_key,
        collapsed.shop,
        sessions.started_at,
        collapsed.item_position as position,
        collapsed.event_time,
        collapsed.event_type,
        collapsed.product_id,
        collapsed.url_before
    from collapsed
    inner join sessions on collapsed.session_key = sessions.session_key
    where collapsed.item_count >= 2
)

select * from examples
