{#- Rules for events that count. Loaders and collector refuse other events; earlier versions of them did not. -#}

{% macro event_types() -%}
    {{ return(['pageview', 'search', 'click', 'detail', 'add', 'remove', 'purchase']) }}
{%- endmacro %}

{% macro sql_list(names) -%}
    ('{{ names | join("', '") }}')
{%- endmacro %}

{#- A number within ± `largest`, otherwise null. NaN is greater than every number in both warehouses. -#}
{% macro in_range(value, largest) -%}
    case when {{ value }} between -{{ largest }} and {{ largest }} then {{ value }} end
{%- endmacro %}

{#- Time of an event. The receipt counts if the device's clock is far from it; only collected events have a receipt. -#}
{% macro believed_time() -%}
    case
        when event_time > {{ dbt.dateadd('minute', var('clock_ahead_minutes'), 'received_at') }}
            or event_time < {{ dbt.dateadd('day', '-' ~ var('clock_late_days'), 'received_at') }}
            then received_at
        else event_time
    end
{%- endmacro %}

{#- The collector flags crawlers in `extra`. Only texts that contain the word are parsed. -#}
{% macro is_bot() -%}
    case
        when contains(extra, '"is_bot"') then coalesce({{ json_text('extra', 'is_bot') }} = 'true', false)
        else false
    end
{%- endmacro %}

{#- Events of the raw log, each at its believed time, with numbers out of range as null. -#}
{% macro logged_events() -%}
    select
        event_id,
        shop,
        session_id,
        client_id,
        {{ believed_time() }} as event_time,
        received_at,
        event_type,
        product_id,
        url,
        query,
        {{ in_range('price', var('largest_amount')) }} as price,
        {{ in_range('quantity', var('largest_quantity')) }} as quantity,
        extra,
        load_id,
        source_file,
        source_line
    from {{ source('raw', 'events') }}
{%- endmacro %}

{#- SQL conditions of events that do not count, by reason. They read `event_time` as `believed_time` returns it. -#}
{% macro exclusions() -%}
    {% set implausible = 'event_time < ' ~ earliest_time() ~ ' or event_time > ' ~ latest_time() %}
    {{ return({
        'no event_id': 'event_id is null',
        'no shop': 'shop is null',
        'implausible event_time': 'event_time is null or ' ~ implausible,
        'unknown event_type': 'event_type is null or event_type not in ' ~ sql_list(event_types()),
        'no product_id': "product_id is null and event_type not in ('pageview', 'search')",
        'no session_id and no client_id': 'session_id is null and client_id is null',
        'bot': is_bot(),
    }) }}
{%- endmacro %}

{% macro earliest_time() -%}
    cast('{{ var("earliest_event_time") }}' as timestamp)
{%- endmacro %}

{% macro latest_time() -%}
    {{ dbt.dateadd('day', 1, utc_now()) }}
{%- endmacro %}

{#- SQL condition: the event counts. -#}
{% macro counts() -%}
    not (
        {% for condition in exclusions().values() -%}
        ({{ condition }}){{ ' or ' if not loop.last }}
        {% endfor -%}
    )
{%- endmacro %}

{#- SQL condition: a purchase of one piece or more. With fewer pieces it is a return, which lowers revenue. -#}
{% macro is_buy() -%}
    (event_type = 'purchase' and coalesce(quantity, 1) > 0)
{%- endmacro %}

{#- SQL condition: the order number is a word for a missing value, or zeros only. -#}
{% macro is_placeholder(text) -%}
    (
        lower({{ text }}) in ('', '-', 'undefined', 'null', 'none', 'nil', 'nan', 'n/a', '(not set)', '(none)')
        or lower({{ text }}) = chr(92) || 'n'
        or replace({{ text }}, '0', '') = ''
    )
{%- endmacro %}
