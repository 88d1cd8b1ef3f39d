{#- KPIs of the sessions of a shop and an hour or day: the select list after the grouping columns. -#}
{% macro kpi_measures() -%}
    count(*) as sessions,
    count(distinct client_id) as active_clients,
    count(case when is_first_of_client then 1 end) as new_clients,
    {% for measure, column in [
        ('events', 'event_count'),
        ('pageviews', 'pageview_count'),
        ('details', 'detail_count'),
        ('adds', 'add_count'),
        ('removes', 'remove_count'),
        ('transactions', 'transaction_count'),
    ] -%}
    cast(sum({{ column }}) as bigint) as {{ measure }},
    {% endfor -%}
    count(case when has_detail then 1 end) as sessions_with_detail,
    count(case when has_add then 1 end) as sessions_with_add,
    count(case when is_purchase then 1 end) as buying_sessions,
    sum(revenue) as revenue,
    sum(tax) as tax,
    sum(shipping) as shipping,
    cast(count(case when is_purchase then 1 end) as double) / count(*) as conversion_rate
{%- endmacro %}
